r"""Golds for grading_adversary.py: (kind, gold, traits).

Traits say which changes keep the meaning, or may: `s` signs, `d` digits 0 and 1, `c` case, `n` no name may stand before
it and letters take no prime, `r` no other sign or function, `w` words, `a` nothing before or behind.
"""

_NUMBERS = r"""
72 -5 18 375 8128 65536 -449 10007 2.71828 \frac{355}{113} -\frac{49}{81} \frac{1001}{2048} 1000000 240 -37 96
123456 4032 2187 \frac{3}{4} -\frac{1}{2} \frac{22}{7} \frac{7}{12} \frac{25}{36} -\frac{8}{15} \frac{143}{60}
\frac{5}{8} \frac{9}{250} 0.75 3.14 12.5 0.002 -6.25 98.6 1024 \frac{2}{3} \frac{13}{17} 59
"""
_SURDS = r"""
2\sqrt{3} \sqrt{7} -5\sqrt{2} 3+2\sqrt{5} 7-\sqrt{3} \frac{\sqrt{3}}{2} \frac{2\sqrt{5}}{3}
\frac{\sqrt{6}-\sqrt{2}}{4} \sqrt{2}+\sqrt{3} \sqrt[3]{4} 5\sqrt[3]{9} \sqrt{5+2\sqrt{6}} 12\sqrt{2}-9
\frac{3+\sqrt{17}}{4} 25\pi 2\pi-3 \frac{5\pi}{6} 4\sqrt{11} \frac{7\sqrt{3}}{5} 2+\sqrt[3]{7}
\frac{2+\sqrt{3}}{\sqrt{5}} \frac{\pi}{4} 8\pi+16 \frac{\pi^2}{6} \sqrt{3}\pi \ln 2 3\ln 5 \log_2 3 e^2 3e
\frac{e-2}{3} 5e^3 \sin 20^\circ \cos 36^\circ \arctan 2 \frac{1}{2^{80}} 2^{100} 3^{-50} 5^{20}+2
\frac{2^{50}-3}{2^{50}} \frac{1}{20!} 100! \binom{52}{5} 7^{2023} \frac{1}{\binom{40}{6}} 2-\frac{1}{2^{99}}
\frac{\sqrt{2}}{10^8} \sqrt{13}-2 4+\frac{\sqrt{7}}{2} 3^{2/3} 2^{5/7}
"""
_EXPRESSIONS = r"""
2x+3 x^2-5x+6 3m+2 5d+7 4t 2ab \frac{1}{2}ab \frac{1}{2}bh \frac{3}{4}n \frac{4}{3}\pi r^3 x^3-2x+7
a^2+2ab+b^2 \frac{x+2}{x-3} \frac{x^2-9}{x+5} (x-2)(x+3)^2 \frac{2x}{x^2+4} \sqrt{x+2} \sqrt{x^2+9}
\frac{x}{\sqrt{x^2+4}} 3R^2 R+r \frac{R}{r} 2\sin x+3 \cos 2x-5 \tan x+2 \sin^2 x+2\cos x x\ln x-x e^{2x}+3
xe^x-e^x 2^n-3 3^{n-2} \frac{n(n+3)}{2} n^2-n+7 \frac{n^2+5n}{2} n!+2 \binom{n}{2} \binom{2n}{n}
\frac{(2n)!}{3^n} x_1+2x_2 a_1a_2 E_1-E_2 \frac{x_1}{x_2} \lambda^2-3 \alpha+2\beta 5\theta-2 \sigma+3
\frac{\lambda}{3} mgh \frac{mv^2}{r} v_0t-\frac{1}{2}gt^2 \sqrt{\frac{2h}{g}} \frac{kq}{r^2} I^2R P+Q p-q
2RC+R+C \gamma^2-3 \frac{x}{3}+\frac{y}{5} xy+yz+zx 7xyz x^4+4y^4 \frac{a+b}{c+5} \frac{1}{x+3}
\frac{2}{a^2+b^2} 40-6h 9-4y^2 (a+2)(b-3) x^2y-3xy^2 4x^3+9x^2-7x+5 3a^2b-8ab^2+6 \frac{2x+7}{x^2+3x+9}
(3x-4)(5x+8) 2^x+3^y-7 \frac{s^2\sqrt{3}}{4} \frac{d^2}{8} 3^x+2^x \log_3 x+2 \sqrt{x}+\sqrt{y} \sqrt[3]{x+5}
|x-3|+2
"""
_TUPLES = r"""
(1,2) (3,-4) (2,\frac{3}{5}) (5,7,9) (2,\sqrt{3}) (-3,8) (0.5,4) (6,2,-5) (\frac{2}{3},\frac{7}{5}) (a,b+2)
(12,35,37)
"""
_LISTS = r"""
3,5 2,7,9 -2,6 \frac{2}{3},5 2,\sqrt{5} 4,9,16,25 3+\sqrt{2},3-\sqrt{2} 7,\pi x+2,x-3 -8,\frac{5}{2},4
"""
_SETS = r"\{2,3\} \{4,7,9\} \{-5,8\} \{2,\sqrt{7}\} \{\frac{2}{5},3\} \{6,12,18,24\}"
_INTERVALS = r"""
[2,5) (-3,8] (2,7) [4,9] (-\infty,3] (2,\infty) [\frac{2}{3},5) (-\sqrt{2},\sqrt{2}) [-5,\infty) (2,\sqrt{7}]
(-\infty,-4)
"""
_RELATIONS = r"""
x<5 x\le 3 x>-2 a\ge 3 2<x<7 -4\le x<6 k\ge 4 x=5 n=12 7x-4y=25 y=4x^2-9x+6 5<k\le 9 b>\frac{7}{2} x^2-6y^2=34
p(x)=3x^2-8x+4 T=2\pi+5 y=2x+3 y=-2x^2+4 x^2+y^2=25 2x+3y=6 f(x)=2x+5 a_n=3n+2 y=\frac{x}{2}-3
(x-2)^2+(y+3)^2=16 \frac{x^2}{9}+\frac{y^2}{4}=2 3x-y+13=0 f(x)=x^2-7 k=n+4 m=\frac{3}{5} S=n^2+2
"""
_UNITS = (
    r"15\text{ cm}",
    r"60\text{ km}",
    r"9.8\text{ kg}",
    r"24\text{ hours}",
    r"36\text{ cm}^2",
    r"2.5\text{ L}",
    r"75\text{ minutes}",
    r"8\text{ ft}",
    r"\frac{3}{4}\text{ km}",
    r"25\pi\text{ cm}^2",
    r"6\sqrt{3}\text{ ft}",
)
_OTHERS = r"3:4 2:5:7 12:30 4:45 1011_2 2043_5 25\% 12.5\%"
_MATRICES = (
    r"\begin{pmatrix}2&3\\5&7\end{pmatrix}",
    r"\begin{pmatrix}4\\-9\end{pmatrix}",
    r"\begin{pmatrix}2\\3\\\frac{5}{7}\end{pmatrix}",
    r"\begin{pmatrix}x&2\\3&y\end{pmatrix}",
)
_TEXTS = (r"\text{Evelyn}", "Monday", r"\text{even}", r"\text{isosceles}", "Tuesday", r"\text{no solution}")
_COMPLEX = r"2+3i -5i 4-7i \frac{3+2i}{5} 2\sqrt{3}i 6i-5".split()
_CUPS = (
    r"(-\infty,-2)\cup(3,\infty)",
    r"[2,4)\cup(6,9]",
    r"(-\infty,5)\cup[7,\infty)",
    r"(-3,2)\cup(4,8)",
    r"\{5\}\cup(7,9]",
)

_EXOTIC = (
    (r"\lfloor\frac{n^2}{4}\rfloor", ""),
    (r"\lceil\frac{2n}{3}\rceil+2", ""),
    (r"\lfloor\sqrt{n-3}\rfloor", ""),
    (r"\sum_{k=2}^{n}\frac{3}{k}", "n"),
    (r"\int_2^5 x^3 dx", "n"),
    (r"\frac{dy}{dx}=3x+2", "nd"),
    ("y'+3y=5", "n"),
    (r"\frac{dx}{dt}=kx-a", "n"),
    (r"\dot{x}+5x=2", "n"),
    (r"\pm 3", "sa"),
    (r"2\pm\sqrt{7}", "s"),
    (r"\frac{-3\pm\sqrt{5}}{2}", "s"),
    ("(2,3),(5,7)", ""),
    ("(4,-5),(-4,5)", ""),
    (r"\{(2,3),(5,8)\}", ""),
    (r"x=3 \text{ or } x=-7", "n"),
    ("a=3, b=5", "n"),
    (r"\frac{\pi}{6}+k\pi", ""),
    (r"3+5k", ""),
    (r"2n\pi+\frac{\pi}{3}", ""),
    (r"x\ne 3", "n"),
    (r"\mathbb{R}\setminus\{5\}", "n"),
    (r"\{x \mid x>3\}", "na"),
    (r"3\pmod{8}", "an"),
    (r"x\equiv 5\pmod{9}", "an"),
    (r"f^{-1}(x)=\frac{x+2}{3}", "n"),
    (r"\overline{AB}", "a"),
    (r"\vec{v}", "a"),
    (r"\angle ABC", "a"),
    (r"3\mathbf{i}-2\mathbf{j}", "wn"),
    (r"A^{-1}B", "n"),
    ("x^T", "n"),
    (r"\frac{x_{\text{a}}}{3}", ""),
    (r"x_{\text{max}}^2+5", ""),
    (r"\frac{\mathrm{e}+3}{2}", ""),
    (r"3-\frac{2}{\mathrm{e}}", ""),
    (r"\left(0,\frac{3}{\mathrm{e}}\right)", ""),
    (r"\$18", "a"),
    (r"\$2.50", "a"),
    (r"45^\circ", "ar"),
    (r"\frac{5}{8}\%", "a"),
    (r"2\ln|x|+C", "s"),
    (r"x^2+3x+C", ""),
    (r"\frac{1}{2}\ln(x^2+4)+C", ""),
    (r"\log_{10} 7", ""),
    (r"\sinh x+3", ""),
    (r"3e^{2ix}", ""),
    (r"\max(a,b)", "n"),
    (r"\gcd(m,n)", "n"),
    (r"P(A\cap B)=\frac{2}{5}", "nr"),
    (r"E[X]=\frac{7}{3}", "n"),
    (r"I(0)e^{-kt}", "n"),
    (r"f'(x)", "n"),
    (r"y(3)", "n"),
    (r"\sqrt{2+\sqrt{3}}", ""),
    (r"\frac{1}{1+\frac{2}{x+3}}", ""),
    (r"\left(\frac{2}{3}\right)^{10}", ""),
    (r"(2x+3)^5", ""),
    ("x^{2n}+x^n+7", ""),
    (r"2^{2^5}", ""),
    ("-x^3+4x", ""),
    (r"\frac{a^2-b^2}{2ab}", ""),
    (r"4:30\text{ p.m.}", "aw"),
    (r"1.6\times10^{-19}", ""),
    (r"6.02\times10^{23}", ""),
    ("2.7e-6", "ac"),
    (r"0.\overline{27}", "a"),
    (r"3\frac{2}{5}", ""),
    ("1,234", "a"),
    (r"\begin{pmatrix}2&0&3\\4&5&6\\7&8&9\end{pmatrix}", "d"),
    ("MR=MC", "n"),
    (r"a:b=2:3", "anw"),
    (r"|x-3|\le 5", "s"),
    (r"\frac{n!}{k!(n-k)!}", ""),
    (r"r=2\cos\theta", "n"),
    (r"\theta=\frac{\pi}{3}", "n"),
    (r"(r,\theta)=(2,\frac{\pi}{3})", "n"),
    ("3, 5, 7, 11, 13", ""),
    (r"x>5, x\ne 8", "n"),
    (r"-5<x<-2 \text{ or } x>3", "n"),
    (r"a^{\frac{2}{3}}", ""),
    (r"\sqrt[5]{x^2+3}", ""),
)
GOLDS: list[tuple[str, str, str]] = [
    *(("number", gold, "") for gold in _NUMBERS.split()),
]


def _split(text: str) -> list[str]:
    r"""Golds stand apart by spaces; `\ln 2` and the like keep theirs."""
    found: list[str] = []
    for part in text.split():
        if found and found[-1].rpartition("\\")[2] in _TAKES_MORE or found and found[-1].endswith(_NAMES):
            found[-1] += " " + part
        else:
            found.append(part)
    return found


_NAMES = (
    "\\ln",
    "\\log_2",
    "\\log_3",
    "\\sin",
    "\\cos",
    "\\tan",
    "\\arctan",
    "\\le",
    "\\ge",
    "\\sin^2",
    "2\\sin",
    "2\\cos",
)
_TAKES_MORE = frozenset(("ln", "sin", "cos", "tan", "le", "ge"))

GOLDS += [("surd", gold, "r" if "circ" in gold else "") for gold in _split(_SURDS)]
GOLDS += [("expression", gold, "s" if "|" in gold else "") for gold in _split(_EXPRESSIONS)]
GOLDS += [("complex", gold, "") for gold in _COMPLEX]
GOLDS += [("tuple", gold, "") for gold in _split(_TUPLES)]
GOLDS += [("list", gold, "") for gold in _split(_LISTS)]
GOLDS += [("set", gold, "") for gold in _split(_SETS)]
GOLDS += [("interval", gold, "") for gold in _split(_INTERVALS)]
GOLDS += [("region", gold, "r") for gold in _CUPS]
GOLDS += [("relation", gold, "n") for gold in _split(_RELATIONS)]
GOLDS += [("unit", gold, "a") for gold in _UNITS]
GOLDS += [("other", gold, "w") for gold in _split(_OTHERS)]
GOLDS += [("matrix", gold, "") for gold in _MATRICES]
GOLDS += [("text", gold, "cwn") for gold in _TEXTS]
GOLDS += [("exotic", gold, traits) for gold, traits in _EXOTIC]
