"""Writes assets/audioset_ontology.json: `python -m panns_litert_convert.ontology ontology.json --out assets`.

The input is Google's ontology.json (https://github.com/audioset/ontology), which is not part of this repository. The
asset keeps what the runtime needs: the identifier, name and children of each node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panns_litert.errors import BundleError
from panns_litert.sense import ONTOLOGY

# Of the ontology.json with 632 nodes and 342780 bytes.
SHA256 = "9c685f4403eecc3ca9be37fd7285cf212feaaea6ff7229d3e7ca89e0d1f2d15d"

NOTICE = {
    "source": "AudioSet ontology, Google, https://github.com/audioset/ontology",
    "licence": "CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/",
    "changes": "identifier, name and children of each node; all else is left out",
}


def compact(nodes: Sequence[dict[str, Any]]) -> str:
    """Returns the asset's text for nodes in the original's format."""
    rows = [{"id": node["id"], "name": node["name"], "children": node["child_ids"]} for node in nodes]
    lines = ",\n".join("  " + json.dumps(row) for row in rows)  # one node per line keeps diffs readable
    return json.dumps(NOTICE, indent=1)[:-2] + ',\n "nodes": [\n' + lines + "\n ]\n}\n"


def ontology_text(original: bytes) -> str:
    """Returns the asset's text for the bytes of Google's ontology.json.

    Raises:
        BundleError: the file is not the version with the hash `SHA256`.
    """
    if hashlib.sha256(original).hexdigest() != SHA256:
        raise BundleError(f"another ontology.json: its sha256 is not {SHA256}; expected the one that was checked")
    return compact(json.loads(original))


def main() -> None:
    """Runs the command line of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("original", type=Path, help="Google's ontology.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the assets")
    arguments = parser.parse_args()
    (arguments.out / ONTOLOGY).write_text(ontology_text(arguments.original.read_bytes()), encoding="utf-8")


if __name__ == "__main__":
    main()
