"""Builds the extension ``kgsm_infer.kernels._core`` over csrc/ and nothing else.

One wheel per platform serves every CPython >= 3.11 (the stable ABI, cp311-abi3).
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

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

setup(
    ext_modules=cythonize([core], build_dir="build"),  # the generated C stays in build/
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
