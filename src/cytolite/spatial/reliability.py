"""What the model's own card says about the types that a measure needs."""

from __future__ import annotations

from typing import Any

from cytolite.bundle import load_bundle
from cytolite.errors import BundleError
from cytolite.spatial.roles import Roles


def type_warnings(about: dict[str, Any], roles: Roles, used: set[str]) -> list[str]:
    """Return sentences about types that play a part, or were found, and are not to be relied on.

    Parameters
    ----------
    about : dict
        What the result says of itself; ``model`` names the bundle.
    roles : Roles
    used : set of str
        Types that at least one cell has.
    """
    warnings = [
        f"No type plays the part {role!r}, so measures that need it are missing; name one with --{role}."
        for role in ("tumour", "lymphocytes", "stroma")
        if not roles.codes[role]
    ]
    model = about.get("model") or {}
    name = str(model.get("name") or "")
    try:
        bundle = load_bundle(name or None)
    except BundleError:
        bundle = None
    if bundle is None or bundle.sha256 != model.get("onnx_sha256"):
        which = f"The model {name!r} is not installed here" if name else "The result does not name its model"
        return [*warnings, f"{which}, so it could not be asked which types are reliable."]
    shaky = [
        f"{name} ({trained:,} trained, {tested:,} tested)"
        for name, (trained, tested) in bundle.spec.few_examples.items()
        if name in used or any(name in roles.types(role) for role in roles.codes)
    ]
    if shaky:
        warnings.append(
            "The model says that these types are not to be relied on, so measures of them are neither: "
            f"{', '.join(shaky)}."
        )
    return warnings
