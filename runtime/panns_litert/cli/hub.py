"""Commands pull and publish."""

from __future__ import annotations

import argparse
from pathlib import Path

from panns_litert.bundle import copy_bundle, hub_metadata, pull
from panns_litert.cli.options import BUNDLE_HELP, named_bundle
from panns_litert.cli.output import AddCommand, note, print_checks, print_json, progress_wanted, steps
from panns_litert.hub import HubId
from panns_litert.proof import publish


def add_commands(command: AddCommand) -> None:
    """Adds pull and publish."""
    sub = command("pull", run_pull)
    sub.add_argument("repo", metavar="ORG/NAME[@REVISION]", help="the repository, and a branch, tag or commit of it")
    sub.add_argument("--out", type=Path, help="also copy the bundle into this folder")

    sub = command("publish", run_publish)
    sub.add_argument("bundle", metavar="MODEL", help=BUNDLE_HELP)
    sub.add_argument("repo", metavar="ORG/NAME", help="the repository; it is created if there is none")
    sub.add_argument("--private", action="store_true", help="create a private repository; refuse a public one")
    sub.add_argument(
        "--dry-run", action="store_true", help="check everything and show the metadata, but upload nothing"
    )


def run_pull(args: argparse.Namespace) -> int:
    """Runs `pull`: downloads a bundle and prints its folder."""
    bundle = pull(args.repo, progress=progress_wanted(args))
    origin = bundle.origin
    if args.out is not None:
        bundle = copy_bundle(bundle, args.out)
    manifest, size = bundle.manifest, len(bundle.model)
    if args.json:
        return print_json(
            {"bundle": str(bundle.path), "origin": origin, "model": manifest.model, "precision": manifest.precision,
             "model_bytes": size, "licence": manifest.source.licence}
        )  # fmt: skip
    print(f"{bundle.path}: {manifest.model} {manifest.precision}, {size / 1e6:.1f} MB, {manifest.source.licence}")
    print(f"always this bundle: {origin}")
    return 0


def run_publish(args: argparse.Namespace) -> int:
    """Runs `publish`: uploads a bundle, or with --dry-run shows what would be uploaded."""
    repo = HubId.parse(args.repo)  # before a model is converted
    bundle = named_bundle(args, args.bundle)
    with steps(args) as report:
        options = {"private": args.private, "dry_run": args.dry_run, "progress": progress_wanted(args)}
        done = publish(bundle, repo, report=report, **options)
    if hub_metadata(bundle.manifest)["license"] == "unknown":
        note(f"the licence of the weights is unknown; {bundle.file('model_card')} may be edited to name it")
    if args.json:
        return print_json(
            {"bundle": str(bundle.path), "repo": repo.repo, "uploaded": done.url is not None, "url": done.url,
             "origin": str(done.hub_id) if done.url else None, "files": done.files,
             "self_test": done.self_test.to_dict()}
        )  # fmt: skip
    print_checks([done.self_test])
    if done.url is None:
        print(done.card.decode(errors="replace").split("\n---", 1)[0] + "\n---")  # the hub's metadata
        for name, size in done.files.items():
            print(f"{size:12d}  {name}")
        print(f"{bundle.path}: can be published as {done.hub_id}; nothing was uploaded")
    else:
        print(f"{done.url}\nalways this bundle: {done.hub_id}")
    return 0
