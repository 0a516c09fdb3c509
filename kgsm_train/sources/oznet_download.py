"""Download the tables of the authors' repository yuyi13/OzNet_AOA at one commit.

The commit is the one whose demo.R (last changed 2026-04-07) reads exactly these files. The
checksums are those of the copy kgsm was tested on, which came without its commit; without a
network it could not be verified that the two belong together. A file at that commit with
another checksum is refused and not written; ``--commit`` names another commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from kgsm_infer.base.errors import DataError, MissingError, UsageError
from kgsm_infer.base.extras import optional
from kgsm_infer.base.files import write_whole
from kgsm_infer.base.network import open_session, reason_of

from .oznet import SITES_FILE, STATION_FILE

REPOSITORY = "https://raw.githubusercontent.com/yuyi13/OzNet_AOA"
COMMIT = "58629c1896ca1cc548b2f5d5c7a1a311cdf45733"
TIMEOUT_SECONDS = 60

#: Station -> sha256 of its file; "" is the list of stations.
CHECKSUMS = {
    "": "157be46e64d43f7d49a2ce2773034be3eb419dc4dd081cdb1d0c17e7d212392f",
    "y10": "296fadc710b90a8b6d674215f76a602319ea2e4dbb43c92b743bda057e1647e9",
    "y5": "ba043471455e3aa710926c11744e25bfd052f19425fed56a6ffa7b30a6b6a52f",
    "y7": "f3f49decaa67d7a45b793c421d4e0d336542475fc71f54e6c8d99170ef775ae6",
    "y8": "0e963caae958dcdb8d5e747515646cb0f3a16e5b4716c76e94d2e7121318eb96",
    "y9": "27882cbd23850df3e2c615f9654103a78965ae83b651df27da6f68230faf26f2",
    "ya3": "42826a0309faac32d80a8837e17be85439950d6b0d6a0c6492f60c09f2172757",
    "ya4a": "c7378370c18158c2b4f0b61acbe59a00c69086b3bc68134ef4810b7377bb3c47",
    "ya4b": "5646a8bea8b6d2309a7bf9431893be6d1e3fceb6f40b2ba7a5a40316646fd43f",
    "ya4c": "be9cef6b9d1dde757b211bb4e9fb9dc6609d89a961d83e3b5e36872cb9d6ebe1",
    "ya4d": "8367bb747b2d5b68f3c1f17a9fa915b496f80d576384fda3995c1d746db6982d",
    "ya4e": "a30534b91e572fc60b4ca4527672db7ed6f037c8b06d15e8005f0130d8b9c1ff",
    "ya5": "b451dd6adc4ab312f086ec7af1a8a7121403852e3fe0da4cf7963ff1980f2a47",
    "ya7a": "f7d3cb30ebbd11664eaa4980d31994a1a81167aa3b8eab3378060cf5c73e20c9",
    "ya7b": "44f84f9e22264220ae2e810185f6952f1d7fd0dab9859771cd0f773a26467f8d",
    "ya7d": "af32f6b27117d4d74775072bed377facdef9dfb12cdc217a610d0558b50c48f4",
    "ya7e": "8c44e5631d6a4805110b9b59940213bb669ec151702f1aeb6a47deb7fc2ed512",
    "ya9": "6df5ac9a52f1946e5437bb687765b76b49fd12ad772158598639014d348e7c7a",
    "yb1": "92b6181b3c41e18e7b3f355c6e6b4cf38b7be6a058c8658e453cddc00301a089",
    "yb3": "ae6531137340ad812ca7ec7079cba5f7b934bac7e87989287f6bf6046f010cfd",
    "yb5a": "a096fac05e0fc30e52cafee45ac5b1b81a449dbda89e92f60eb77ce85c66d73c",
    "yb5b": "ecf879c97354ed7e6e488cbbc153321060ba247186ce3b97c7f64ad923f1510a",
    "yb5d": "93a4f249ca6e9e3c5e0895d424796ff48376124a0e226ae6f4255be74a9adec1",
    "yb5e": "2d9280240b87b12c77a55d98cf649186088636b0815d6e0483d0f2241739a506",
    "yb7a": "06f0a8cc54f955837acccaf231db8f0e924fbc460216e1dcc4d8ca8f2cc5f7b7",
    "yb7c": "7e4a6ffbcf3026ffd72d6a1807a1a40409c677f91cb5ed437906e55ef991161d",
    "yb7d": "bdccabd2f699a9a65646f65a751a13161401280237e4336ff71be2dacccab772",
    "yb7e": "0d92fb4204d17f6615547cc72483f0a285e3c692bd37638621e39634f8d106a0",
    "yb9": "f838683a59a5c84f16c0bc24e1146cc2906ccd03d3a8e1d632e204dd7c75c284",
}

Fetch = Callable[[str], bytes]


def download_oznet(
    folder: str | Path, *, commit: str = COMMIT, fetch: Fetch | None = None
) -> tuple[int, int]:
    """Download the repository's tables; return the numbers of files downloaded and already present.

    A file with the right checksum is not fetched again, so an interrupted download resumes.
    fetch: URL -> bytes, the network by default.
    MissingError if a file cannot be fetched, DataError if a file is not the one tested.
    """
    folder = Path(folder)
    if len(commit) != 40 or not set(commit) <= set("0123456789abcdef"):
        raise UsageError(f"commit {commit!r} is not 40 hexadecimal digits")
    fetched = kept = 0
    for site, checksum in CHECKSUMS.items():
        name = STATION_FILE.format(site=site) if site else SITES_FILE
        path = folder / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == checksum:
            kept += 1
            continue
        url = f"{REPOSITORY}/{commit}/{name}"
        content = (fetch or _from_network)(url)
        found = hashlib.sha256(content).hexdigest()
        if found != checksum:
            raise DataError(
                f"{url}: sha256 {found[:12]}..., tested with {checksum[:12]}...; not kept. "
                "Give another --commit, or clone the repository and give its folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path, "wb") as file:
            file.write(content)
        fetched += 1
    return fetched, kept


def _from_network(url: str) -> bytes:
    requests = optional("requests", what="data oznet --download", extra="train")
    try:
        with open_session("data oznet --download", extra="train") as session:
            answer = session.get(url, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        raise MissingError(
            f"{url}: cannot be reached ({reason_of(error)}); without a network, copy the "
            "repository here by other means and give its folder without --download"
        ) from None
    if not answer.ok:
        raise MissingError(f"{url}: the server says {answer.status_code} {answer.reason}")
    return bytes(answer.content)
