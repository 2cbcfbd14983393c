"""The workflow elements, each a module in the folder of its kind; a new one is a copy of a neighbour.

A file `name.py` is the element `name`; a file `_name.py` is every element whose name ends in `_name`. A submission
brings the element's own file, NAME.py, which is imported as the `module` that each function here gets:

- transformers: `fit(module, X, y)` returns what `transform(fitted, X)` uses;
- predictors: `fit(module, X, y)` returns what `predict(fitted, X)` uses; PREDICTS says what that may return;
- calibrators: as predictors, on the probabilities of the predictor before.

KEEPS_FRAME says that a predictor, as the first element, takes the DataFrame itself, as transformers do. The worker
reads these constants: no element imports scikit-learn before it is used.
"""

import importlib
from pathlib import Path
from types import ModuleType

KINDS = ("transformers", "predictors", "calibrators")  # the places in a workflow, in order
FILES = {kind: sorted(path.stem for path in (Path(__file__).parent / kind).glob("*.py")) for kind in KINDS}
PROBABILITIES, VALUES = "probabilities", "values"  # what is predicted: a column for each class, or for each target


def find_element(name: str) -> tuple[str, ModuleType]:
    """Return the kind and the module of a workflow element. Raises ValueError where there is none."""
    for kind, stems in FILES.items():
        for stem in stems:
            if name == stem or (stem.startswith("_") and name.endswith(stem)):
                return kind, importlib.import_module(f"{__name__}.{kind}.{stem}")
    raise ValueError(f"unknown workflow element {name!r}")


def can_run(workflow_elements: list[str]) -> bool:
    """Whether these elements are a workflow: transformers, then one predictor, then a calibrator or none."""
    try:
        kinds = [find_element(name)[0] for name in workflow_elements]
    except ValueError:
        return False
    in_order = kinds == sorted(kinds, key=KINDS.index) and kinds.count("predictors") == 1
    return in_order and kinds.count("calibrators") <= ("classifier" in workflow_elements)


def keeps_frame(workflow_elements: list[str]) -> bool:
    """Whether the first element takes the DataFrame itself; otherwise it gets a plain array."""
    kind, element = find_element(workflow_elements[0])
    return kind == "transformers" or getattr(element, "KEEPS_FRAME", False)


def predicts(workflow_elements: list[str]) -> tuple[str, ...]:
    """Return what the workflow's predictor may predict: PROBABILITIES, VALUES or both.

    Nothing where the elements are no workflow: what the data set's own functions predict, they alone know.
    """
    if not can_run(workflow_elements):
        return ()
    [predictor] = [module for kind, module in map(find_element, workflow_elements) if kind == "predictors"]
    return predictor.PREDICTS
