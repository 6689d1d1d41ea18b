"""Metadata of openrlhf_math. The pins live in requirements/; the extras repeat them for those who install by name."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The lines of requirements/NAME that are no comments."""
    lines = (HERE / "requirements" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="openrlhf_math",
    version="0.1.0",
    description="Distillation, reference-free GRPO and reranking for mathematics, on OpenRLHF",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["openrlhf_math", "openrlhf_math.*"]),
    package_data={"openrlhf_math.report": ["template/*"]},
    install_requires=["aiohttp>=3.9", "mpmath>=1.3,<1.4", "numpy>=1.26", "rapidfuzz>=3.0", "rich>=13.0", "shtab>=1.7"],
    extras_require={
        # OpenRLHF and vLLM's CPU build come on top, without their dependencies: requirements/cpu-nodeps.txt.
        "cpu": requirements("cpu.in"),
        "gpu": requirements("gpu.in"),
        # For `vote`, `eval --completions`, `curate` and `report` alone: no torch, no Ray.
        "files": ["jinja2", "matplotlib", "pyarrow", "rensa", "xxhash"],
        "dev": requirements("dev.txt"),
    },
    entry_points={"console_scripts": ["openrlhf-math = openrlhf_math.cli:main"]},
)
