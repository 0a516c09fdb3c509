"""PyInstaller hook: modules that are imported by name when first used, the C core among them."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

# not the tests' or this hook's own modules; optional packages come with their own hooks
hiddenimports = collect_submodules("kgsm_infer", filter=lambda name: "_pyinstaller" not in name)
# the shipped model and daily parameters, and the gateway's page
INCLUDES = ["model/*.onnx", "daily/*.json", "gateway/http/page.*"]
datas = collect_data_files("kgsm_infer", includes=INCLUDES)
