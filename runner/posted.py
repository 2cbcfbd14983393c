"""The packages of posted files, and what those of a data set are, by their names and, for Python files, their text."""

import re
from collections.abc import Mapping
from typing import BinaryIO

TABLES = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}  # endings, and what separates the columns
PACKAGE = "submission"  # the package of a submission's files
ORGANISER = "organiser"  # the package of a data set's Python files
SPECIFIC = "specific"  # the one of them that defines the functions: see organiser.py
DATA_FUNCTIONS = ("prepare_data", "get_train_data", "get_test_data")
FOLD_FUNCTIONS = ("train_submission", "test_submission")
FUNCTIONS = "|".join((*DATA_FUNCTIONS, *FOLD_FUNCTIONS)).encode()
DEFINITION = re.compile(rb"^[ \t]*def[ \t]+(%s)\b" % FUNCTIONS, re.MULTILINE)
SOURCE_LENGTH = 10_000_000  # bytes of a Python file that are looked at


def separator(name: str) -> str | None:
    """Return what separates the columns of a table file of this name, None for another file."""
    return next((sep for ending, sep in TABLES.items() if name.lower().endswith(ending)), None)


def is_code(name: str) -> bool:
    """Whether a file of this name is Python."""
    return name.lower().endswith(".py")


def stored_names(files: Mapping[str, BinaryIO]) -> dict[str, str]:
    """Return under which name each file is stored: specific.py for the one that defines most of the functions."""
    definitions = {}
    for name in filter(is_code, sorted(files)):
        definitions[name] = len(set(DEFINITION.findall(files[name].read(SOURCE_LENGTH))))
        files[name].seek(0)
    names = {name: name for name in files}
    if definitions:
        chosen = max(definitions, key=lambda name: (definitions[name], name == f"{SPECIFIC}.py"))
        if f"{SPECIFIC}.py" in names:  # another file has that name, and gets this one's in exchange
            names[f"{SPECIFIC}.py"] = chosen
        names[chosen] = f"{SPECIFIC}.py"
    return names
