"""The workflow elements that runner has, by the names of their files: runner itself is never imported here."""

from pathlib import Path

ELEMENTS = Path(__file__).resolve().parent.parent / "runner" / "elements"
GRAMMAR = "any transformers, then one predictor, then optionally a calibrator after a classifier"


def elements_of(kind: str) -> list[str]:
    """Return the names of the transformers, predictors or calibrators."""
    return sorted(path.stem for path in (ELEMENTS / kind).glob("*.py") if not path.stem.startswith("_"))


def split_names(workflow_elements: str) -> list[str]:
    """Return the names in a comma-separated list, spaces tolerated."""
    return [name.strip() for name in workflow_elements.split(",")]


def workflow_fault(workflow_elements: str) -> str | None:
    """Return why no executor can run this workflow, or None."""
    names = split_names(workflow_elements)
    kinds = {name: kind for kind in ("transformers", "predictors", "calibrators") for name in elements_of(kind)}
    for name in names:
        if name not in kinds:
            return f"'{name}' is no workflow element; expected some of {', '.join(sorted(kinds))}."
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"'{twice}' stands twice; expected each element once."
    order = [kinds[name] for name in names]
    if order[order.count("transformers") :] not in (["predictors"], ["predictors", "calibrators"]):
        return f"'{', '.join(names)}' is no workflow that can run; expected {GRAMMAR}."
    if "calibrators" in order and "classifier" not in names:
        return f"'{', '.join(names)}' calibrates no classifier; expected {GRAMMAR}."
    return None
