"""Finds what may run somebody else's code in Python source, by its syntax tree.

Names are followed through imports (`import numpy as np`, `from torch import load`), not through
variables: it keeps honest people from mistakes.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase

FORBIDDEN = (
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.__import__",
    "pickle",
    "pickle.*",
    "_pickle*",
    "*cloudpickle*",
    "dill*",
    "joblib*",
    "shelve*",
    "marshal*",
    "runpy*",
    "code.*",
    "importlib.machinery.*",
    "importlib.util.spec_from*",
    "logging.config.*",
    "os.system",
    "os.popen",
    "os.exec*",
    "os.spawn*",
    "os.posix_spawn*",
    "pty.*",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "torch.hub.*",
    "torch.jit.load",
    "torch.serialization.load",
    "torch.package*",
    "yaml.*load*",
    "yaml.*Loader",
    "*.read_pickle",
    "*.to_pickle",
    "*.extractall",
    "*.unpack_archive",
)
"""Dotted names that are not to be used, however they were imported."""

HARMLESS = frozenset(
    {
        "pickle.UnpicklingError",  # an error that torch.load raises
        "pickle.dumps",  # how large a message is
        "yaml.safe_load",
    }
)

ONLY = {
    "weights_only": True,
    "allow_pickle": False,
    "trust_remote_code": False,
    "shell": False,
    "use_safetensors": True,
    "safe_serialization": True,
}
"""Arguments that may be given with this value only."""

NEEDED = {"torch.load": "weights_only"}
"""Functions whose default is not relied on."""

IMPORTERS = ("importlib.import_module", "importlib.__import__")


def forbidden_code(source: str, *, computed_imports: bool = False) -> list[str]:
    """What is wrong with a module: `line: what`, a line each.

    Args:
        source: of the module.
        computed_imports: whether it may import modules whose names are no literals.
    """
    tree = ast.parse(source)
    aliases = dict(_imported(tree))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name for _, name in _imported(node) if name != "pickle"]
        elif isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            names = [_dotted(node, aliases)] if isinstance(node.ctx, ast.Load) else []
        elif isinstance(node, ast.Call):
            found += [(node.lineno, what) for what in _bad_call(node, aliases, computed_imports)]
        found += [(node.lineno, name) for name in names if _is_forbidden(name)]  # type: ignore[attr-defined]
    return [f"{line}: {what}" for line, what in sorted(set(found))]


def _is_forbidden(name: str) -> bool:
    forbidden = any(fnmatchcase(name, pattern) for pattern in FORBIDDEN)
    return name.endswith(".*") or (forbidden and name not in HARMLESS)


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local name and dotted name of everything that is imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or whole, whole if alias.asname is None else alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """The name of an expression, as far as it is one: `np.load` is `numpy.load`."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, aliases)}.{node.attr}"
    if isinstance(node, ast.Name):
        return aliases.get(node.id, f"builtins.{node.id}")
    return "?"


def _bad_call(call: ast.Call, aliases: dict[str, str], computed_imports: bool) -> Iterator[str]:
    name, given = _dotted(call.func, aliases), {k.arg: k.value for k in call.keywords}
    for argument, value in given.items():
        if argument in ONLY and not _is_constant(value, ONLY[argument]):
            yield f"{argument}={ast.unparse(value)}"
    if NEEDED.get(name, "") not in ("", *given):
        yield f"{name} without {NEEDED[name]}"
    literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
    if name in IMPORTERS and not literal and not computed_imports:
        yield f"{name} of a computed name"


def _is_constant(value: ast.expr, wanted: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted
