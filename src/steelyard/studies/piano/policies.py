"""Finished policies on disk: what arms start from, what is evaluated and filmed."""

from pathlib import Path

from steelyard.agents.sac import SACConfig
from steelyard.data.normalisation import Normaliser
from steelyard.files import field, reading
from steelyard.nets import TanhGaussian
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.training.plain import from_plain
from steelyard.training.run_folder import RunFolder, write_json
from steelyard.training.sac_policies import Network, SACPolicy, policy_template

POLICY, NETWORK = "checkpoint_final.safetensors", "network.json"


def save_policy(
    folder: RunFolder, network: Network, actor: TanhGaussian, normaliser: Normaliser
) -> None:
    """Write a policy: actor and normaliser, nothing of a critic."""
    write_json(folder.checkpoints / NETWORK, network._asdict())
    save_tree(folder.checkpoints / POLICY, SACPolicy(actor, normaliser))


def load_policy(path: Path) -> tuple[Network, SACPolicy]:
    """Open the policy of a finished run of this study or of ``train cpl``.

    Raises:
        FileNotFoundError: The run has none.
        ValueError: An array of it is missing or has another shape; names it.
    """
    folder = RunFolder(Path(path))
    said, file = folder.read(f"checkpoints/{NETWORK}"), folder.checkpoints / POLICY
    if said is None or not file.exists():
        raise FileNotFoundError(
            f"{path} has no policy (checkpoints/{POLICY}); run the same command again to finish it"
        )
    place = str(folder.checkpoints / NETWORK)
    layers = {k: field(said, k, kind=object, place=place) for k in ("hidden", "activation")}
    config = from_plain(SACConfig, layers, place)
    network = Network(field(said, "env", kind=str, place=place), config.hidden, config.activation)
    with reading(place, "names settings that make no policy"):
        template = policy_template(network.env, config)
    return network, load_tree(file, template)
