"""Build the extension ``kgsm_infer.kernels._core`` over csrc/, and a README for a package index.

Other metadata is in pyproject.toml, which cannot depend on the address (tools/index_readme.py).

One wheel per platform serves every CPython >= 3.11 (the stable ABI, cp311-abi3). Without a C
compiler the installation succeeds, and the NumPy twin runs at a fraction of the speed.
``KGSM_REQUIRE_C=1`` makes a missing compiler an error; ``KGSM_PURE=1`` builds a pure wheel
(py3-none-any) without trying. ``KGSM_URL`` is the address of the repository on its forge; the
workflow of releases sets it.
"""

import os
import sys
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "tools"))
from index_readme import readme_for_an_index, urls  # noqa: E402  beside this file, not installed

if "free-threading build" in sys.version:
    sys.exit("kgsm is not tested on free-threaded Python; use the standard build of Python")

# -ffp-contract=off: where multiply-add is fused is written in csrc/, not left to chance.
# Tiers name their own instructions (#pragma target), so every file has the same flags.
# Never -march=native or -ffast-math: wheels travel, and NaN must stay NaN.
GCC_OR_CLANG = ["-std=c11", "-O2", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
MSVC = ["/std:c11", "/O2", "/fp:precise"]

core = Extension(
    "kgsm_infer.kernels._core",
    sources=["kgsm_infer/kernels/_core.pyx", *sorted(glob("csrc/*.c"))],
    depends=sorted(glob("csrc/*.h")),
    include_dirs=["csrc"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    py_limited_api=True,
    libraries=[] if os.name == "nt" else ["m"],
    extra_compile_args=MSVC if os.name == "nt" else GCC_OR_CLANG,
)
pure = os.environ.get("KGSM_PURE") == "1"
extensions = [] if pure else cythonize([core], build_dir="build")  # generated C stays in build/
for extension in extensions:  # cythonize drops the argument of this name
    extension.optional = os.environ.get("KGSM_REQUIRE_C") != "1"


class Wheel(bdist_wheel):
    """Name a wheel without the extension py3-none-any: it is then pure Python."""

    def get_tag(self) -> tuple[str, str, str]:
        built = [
            path for path in Path(self.bdist_dir).rglob("_core.*") if path.suffix in (".so", ".pyd")
        ]
        return super().get_tag() if built else ("py3", "none", "any")


address = os.environ.get("KGSM_URL", "").rstrip("/")
setup(
    long_description=readme_for_an_index((HERE / "README.md").read_text("utf-8"), address),
    long_description_content_type="text/markdown",
    project_urls=urls(address),
    cmdclass={"bdist_wheel": Wheel},
    ext_modules=extensions,
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if extensions else {},
)
