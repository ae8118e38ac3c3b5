"""The site: `python -m sphinx -W -n --keep-going docs build/docs`. Tutorials run as it is built; no network."""

import re
import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import issref

HERE = Path(__file__).parent
shutil.rmtree(HERE / "tutorials", ignore_errors=True)  # Sphinx reads what is in its own folder only
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", ignore=lambda *_: {"figures", "__pycache__"})

project, author, copyright = "issref", "the authors of issref", "the authors of issref, MIT licence"
version = release = issref.__version__
html_title, html_theme, html_math_renderer = "issref", "furo", "mathml"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
exclude_patterns = ["conf.py"]

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode, nb_execution_in_temp, nb_execution_timeout = "force", True, 300
nb_execution_show_tb = nb_merge_streams = True
nb_render_markdown_format = "myst"
smartquotes_action = "qe"  # the two dashes of a flag stay two
myst_enable_extensions, myst_heading_anchors = ["dollarmath", "deflist"], 3

autodoc_member_order, autodoc_typehints_format = "bysource", "short"
autodoc_preserve_defaults, add_module_names = True, False
python_maximum_signature_line_length = 88
nitpick_ignore_regex = [("py:.*", r"(?!issref\.).*|.*Annotated.*")]  # others' types: no network, no links

PUBLIC = {name: f"{vars(issref)[name].__module__}.{name}" for name in issref.__all__}


def signature(app, what, name, obj, options, arguments, returned):
    """NumPy's name for what can be a dtype, which Python spells out."""
    return arguments and re.sub(r"type\[[^|]*\] \| .*?_DTypeDict \| str", "DTypeLike", arguments), returned


def docstring(app, what, name, obj, options, lines):
    """Our docstrings are plain text for a terminal; this writes the little markup they have in Sphinx's way."""
    blocks = "\n".join(lines).strip("\n").split("\n\n")
    lines[:] = [line for block in blocks for line in (*written(block), "")]
    if lines[0].startswith("Alias for field number"):  # what Python says of a field of a NamedTuple
        lines.clear()


def written(block: str) -> list[str]:
    """A paragraph of a docstring: an example as it is; an equation, a table, commands word for word; or text."""
    if block.startswith(">>>"):
        return block.splitlines()
    if block.startswith((" ", "python -m ")):
        return [".. code-block:: text", "", *(f"   {line}" for line in block.splitlines())]
    pieces = re.split("`([^`]+)`", " ".join(block.split()))
    return ["".join(code(piece) if odd % 2 else escaped(piece) for odd, piece in enumerate(pieces))]


def code(text: str) -> str:
    return f":py:obj:`{text} <{PUBLIC[text]}>`" if text in PUBLIC else f"``{text}``"


def escaped(text: str) -> str:
    return re.sub(r"([\\*_|`])", r"\\\1", text)


def mathml(display: str):
    """Formulas as the MathML that browsers know, so that a page loads nothing."""

    def visit(translator, node):
        formula = node.astext().replace(r"\Big", "").replace(r"\arg", r"\operatorname{arg}")  # unknown to convert
        found = convert(formula, display=display)
        bar = '<mo stretchy="false">&#x0007C;'  # a norm's, not "divides"
        translator.body.append(found.replace(bar, bar.replace("<mo", '<mo lspace="0em" rspace="0em"')))
        raise SkipNode

    return visit, None


def setup(app):
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring)
