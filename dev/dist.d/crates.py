#!/usr/bin/env python3
"""Lists the crates that the program contains: as an SBOM, and with the texts of their licences.

    dev/dist.d/crates.py TOP TARGET SBOM THIRD_PARTY

The SBOM is CycloneDX 1.5 without times and serial numbers, so that the same lock file makes the same SBOM, and without paths of the
machine that it was made on.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

PROGRAM = "kaleem-dr-cli"
LICENCES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT")


def crates(top, target):
    """The packages that the program is linked from, by id, and for each the ids of those that it needs."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=top, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(id for id, package in packages.items() if package["name"] == PROGRAM)
    needed, left = {}, [root]
    while left:
        id = left.pop()
        if id in needed:
            continue
        # Macros run while the program is compiled, and do not become part of it; neither do their own dependencies.
        is_linked = lambda other: all("proc-macro" not in crate["kind"] for crate in packages[other]["targets"])
        needed[id] = sorted(
            each["pkg"]
            for each in nodes[id]["deps"]
            if any(kind["kind"] is None for kind in each["dep_kinds"]) and is_linked(each["pkg"])
        )
        left += needed[id]
    return root, packages, needed


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums, kind="library"):
    made = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package.get("description"):
        made["description"] = " ".join(package["description"].split())
    if package.get("license"):
        # Old crates write `MIT/Apache-2.0`.
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def sbom(top, root, packages, needed):
    lock = tomllib.loads((top / "Cargo.lock").read_text())
    checksums = {(each["name"], each["version"]): each.get("checksum") for each in lock["package"]}
    order = sorted(needed, key=lambda id: (packages[id]["name"], packages[id]["version"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[root], checksums, "application")},
        "components": [component(packages[id], checksums) for id in order if id != root],
        "dependencies": [
            {"ref": purl(packages[id]), "dependsOn": sorted({purl(packages[other]) for other in needed[id]})} for id in order
        ],
    }


def third_party(packages, needed):
    """The texts of the licences, each once, with the crates that it belongs to."""
    texts = {}
    for id in sorted(needed, key=lambda id: (packages[id]["name"], packages[id]["version"])):
        package = packages[id]
        if package["source"] is None:
            continue
        name = f"{package['name']} {package['version']} ({package.get('license') or 'see below'})"
        directory = Path(package["manifest_path"]).parent
        files = [file for file in sorted(directory.iterdir()) if file.is_file() and file.name.upper().startswith(LICENCES)]
        for file in files:
            texts.setdefault(file.read_text(encoding="utf-8", errors="replace").strip(), []).append(name)
        if not files:
            texts.setdefault(f"The crate contains no text of its licence: {package.get('license')}", []).append(name)
    parts = ["kaleem-dr contains the following crates.\n"]
    for text, names in texts.items():
        parts.append(f"{'-' * 80}\n" + "\n".join(names) + f"\n\n{text}\n")
    return "\n".join(parts)


def main(top, target, sbom_path, third_party_path):
    root, packages, needed = crates(top, target)
    Path(sbom_path).write_text(json.dumps(sbom(Path(top), root, packages, needed), indent=1, ensure_ascii=False) + "\n")
    Path(third_party_path).write_text(third_party(packages, needed))


main(*sys.argv[1:])
