"""Where everything lies in a bundle, by name.

    manifest.json          the plan, the recipe, the digest of every other file
    manifest.json.sha256   the digest of the manifest
    planning.json          blocks of the model, and other cuts of them, for people
    parts/NAME.onnx        one per part; weights are references into the store
    parts/NAME.xN.onnx     of a part, for N robots at once, with the same weights
    whole/PHASE.onnx       the uncut phases, which `verify` compares with
    weights/SHA256         one per distinct weight
    predictors/SHA256      a trained predictor of the bandwidth, if one was given
    actions/SHA256         tables of action errors for the control loop, if they were given
    precisions/SHA256      the table of precisions for the controller dyq, if it was given
    golden/observation.npz, golden/action.npz   one control step of the uncut model
    golden/sequence.npz    of a model that remembers: that step, the next ones, and their state
    initial.npz            initial values of state that are not zeros
    golden/parts/NAME.npz  if engines are built later: the inputs and outputs, by key, of a
                           part's first run in that step

Compiling the same model twice gives the same bytes. Nothing in a bundle is code.
"""

from __future__ import annotations

from vlacut.plans.batch import batch_name
from vlacut.plans.plan import Part

FORMAT = 14
MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.json.sha256"
SIGNATURE = "manifest.json.sig"  # see `vlacut.security.signing`
HALF = "half"  # of a half: whose it is, see `vlacut.bundle.halves`

PREDICTORS, ACTIONS, PRECISIONS, DRAFTS = "predictors", "actions", "precisions", "drafts"  # folders
OBSERVATION, ACTION = "golden/observation.npz", "golden/action.npz"
SEQUENCE = "golden/sequence.npz"
INITIAL = "initial.npz"


def part_file(part: Part) -> str:
    """The name of a part's file."""
    return f"parts/{part.name}.onnx"


def part_files(part: Part) -> tuple[str, ...]:
    """The names of a part's file and of those of its batches."""
    more = (batch_name(part.name, batch.robots) for batch in part.batches)
    return part_file(part), *(f"parts/{name}.onnx" for name in more)


def part_golden_file(part: Part) -> str:
    """The name of the file of a part's recorded inputs and outputs."""
    return f"golden/parts/{part.name}.npz"
