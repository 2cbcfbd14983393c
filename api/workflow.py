"""The workflow elements that runner has, by the names of their files: runner itself is never imported here.

A file NAME.py is the element NAME; a file _NAME.py is every element whose name ends in _NAME.
"""

from pathlib import Path

ELEMENTS = Path(__file__).resolve().parent.parent / "runner" / "elements"
KINDS = ("transformers", "predictors", "calibrators")
GRAMMAR = "any transformers, then one predictor, then optionally a calibrator after a classifier"


def elements_of(kind: str) -> list[str]:
    """Return the names of the transformers, predictors or calibrators; one that begins with _ is an ending."""
    return sorted(path.stem for path in (ELEMENTS / kind).glob("*.py"))


def kind_of(name: str) -> str | None:
    """Return the kind of a workflow element, None where there is none of this name."""
    if not name.isidentifier():
        return None
    for kind in KINDS:
        for element in elements_of(kind):
            if name == element or (element.startswith("_") and name.endswith(element)):
                return kind
    return None


def split_names(workflow_elements: str) -> list[str]:
    """Return the names in a comma-separated list, spaces tolerated."""
    return [name.strip() for name in workflow_elements.split(",")]


def names_fault(workflow_elements: str) -> str | None:
    """Return why these cannot be the names of a submission's files, or None."""
    names = split_names(workflow_elements)
    if bad := [name for name in names if not name.isidentifier()]:
        return f"'{bad[0]}' is no workflow element; expected the name of a Python file, without .py."
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"'{twice}' stands twice; expected each element once."
    return None


def workflow_fault(workflow_elements: str) -> str | None:
    """Return why no executor can run this workflow, or None."""
    names = split_names(workflow_elements)
    order = [kind_of(name) for name in names]
    if None in order:
        known = [element for kind in KINDS for element in elements_of(kind)]
        shown = sorted(f"any_{element[1:]}" if element.startswith("_") else element for element in known)
        return f"'{names[order.index(None)]}' is no workflow element; expected some of {', '.join(shown)}."
    if fault := names_fault(workflow_elements):
        return fault
    if order[order.count("transformers") :] not in (["predictors"], ["predictors", "calibrators"]):
        return f"'{', '.join(names)}' is no workflow that can run; expected {GRAMMAR}."
    if "calibrators" in order and "classifier" not in names:
        return f"'{', '.join(names)}' calibrates no classifier; expected {GRAMMAR}."
    return None
