"""Runs the program beside this file as the main program, after the imports of the prelude."""

import os
import sys

if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)
_here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(_here, "prelude.py"), encoding="utf-8") as _file:
    for _line in _file:
        try:
            exec(_line, globals())
        except ImportError:
            # Some names are younger than some interpreters.
            pass
with open(os.path.join(_here, "program.py"), encoding="utf-8") as _file:
    _code = compile(_file.read(), "program.py", "exec")
exec(_code, globals())
