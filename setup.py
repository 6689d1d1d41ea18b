"""Metadata of openrlhf_math. The pins live in requirements/; the extras repeat only what a user must choose."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="openrlhf_math",
    version="0.1.0",
    description="Distillation, reference-free GRPO and reranking for mathematics, on OpenRLHF",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=[*find_packages(include=["openrlhf_math", "openrlhf_math.*"]), "openrlhf_math.patches"],
    package_dir={"openrlhf_math.patches": "patches"},
    install_requires=["math-verify==0.9.0", "pebble", "rich"],
    entry_points={"console_scripts": ["openrlhf-math = openrlhf_math.cli:main"]},
)
