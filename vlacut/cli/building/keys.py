"""`keys` and `sign`: certificates for the machines of a deployment, and signatures of bundles."""

from __future__ import annotations

from pathlib import Path

import click

from vlacut.bundle.reading import open_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.output import console, json_option, print_json, say_next
from vlacut.errors import InputError


@click.command("keys")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--robot", "robots", multiple=True, help="Name of a robot; again for more.")
@click.option("--days", default=825, show_default=True, type=click.IntRange(1), help="Valid for.")
@click.option("--renew", multiple=True, help="Make the keys of a robot, or cloud, anew; again.")
@click.option("--revoke", multiple=True, help="Take a robot's trust away; again for more.")
@click.option("--signer", is_flag=True, help="A key that signs bundles, and nothing else.")
@json_option
def keys_command(
    folder: Path,
    robots: tuple[str, ...],
    days: int,
    renew: tuple[str, ...],
    revoke: tuple[str, ...],
    signer: bool,
    as_json: bool,
) -> None:
    """Make keys for the cloud and for robots.

    Run it with the same FOLDER later, for more robots. Copy FOLDER/cloud to the cloud and
    FOLDER/NAME to a robot, for --tls. Keep FOLDER/authority.
    With --renew, the old keys stay valid until they end. With --revoke, copy the new
    FOLDER/cloud/revoked.pem to the cloud and start the server anew.
    With --signer: FOLDER/signer/key.pem is for vlacut sign, public.pem for --trusted.
    """
    if signer and robots:
        raise InputError("--signer makes a key for bundles, --robot one for a machine; ask for one")
    if sum(map(bool, (signer or robots, renew, revoke))) > 1:
        raise InputError("--robot and --signer make keys, --renew and --revoke change; ask for one")
    try:
        from vlacut.security.keys import make_keys, renew_keys, revoke_keys
        from vlacut.security.signing import make_signer
    except ImportError as error:
        raise InputError(f"keys need {error.name}: pip install 'vlacut[keys]'") from error
    if renew:
        made = renew_keys(folder, renew, days)
    elif revoke:
        made = [revoke_keys(folder, revoke)]
    else:
        made = [make_signer(folder)] if signer else make_keys(folder, robots or ("robot",), days)
    if as_json:
        print_json({"folders": [str(path) for path in made]})
        return
    for path in made:
        console().print(f"made {path}")
    if revoke:
        console().print("copy it to the cloud, beside its keys, and start the server anew")
    elif signer:
        say_next(f"vlacut sign BUNDLE --key {folder}/signer/key.pem")
    else:
        say_next(
            f"vlacut serve BUNDLE --tls {folder}/cloud",
            f"vlacut run BUNDLE --tls {folder}/{(robots or ('robot',))[0]}",
        )


@click.command("sign")
@BUNDLE
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="key.pem of vlacut keys --signer."
)
@json_option
def sign_command(path: Path, key: Path, as_json: bool) -> None:
    """Sign a bundle, for machines that run it with --trusted.

    Its files are checked first.
    """
    try:
        from vlacut.security.signing import sign_bundle
    except ImportError as error:
        raise InputError(f"signing needs {error.name}: pip install 'vlacut[keys]'") from error
    bundle = open_bundle(path, half=True)
    made = sign_bundle(bundle, key)
    if as_json:
        print_json({"signature": str(made), "digest": bundle.digest.hex()})
        return
    console().print(f"signed {path} ({bundle.digest.hex()[:12]}): {made}")
    say_next(f"vlacut run {path} --trusted {key.parent / 'public.pem'}")
