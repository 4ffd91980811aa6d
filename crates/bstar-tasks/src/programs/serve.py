"""Runs a candidate program and answers calls to it, one JSON line each way (see `wire.py`).

Everything here shares a process with the program, so nothing here is trusted: the program may forge
any reply. It gains nothing by that, because what is expected of it is in another process.
Arguments: the number of the descriptor with requests, and of the one for replies. The prelude and the program stand in files beside this one.
"""

import json
import os
import sys

MOST_ITEMS = 100_000


def find(namespace, name):
    """A name of the program; a method of its class `Solution` counts too."""
    if name in namespace:
        return namespace[name]
    solution = namespace.get("Solution")
    if isinstance(solution, type) and hasattr(solution, name):
        return getattr(solution(), name)
    raise NameError(f"name '{name}' is not defined")


def answer(request, namespace, kept):
    what = request["do"]
    if what == "find":
        return find(namespace, request["name"])
    target = kept[request["object"]]
    if what == "attribute":
        return getattr(target, request["name"])
    if what == "set":
        return setattr(target, request["name"], decode(request["value"], kept.__getitem__))
    if what == "items":
        items = []
        for item in target:
            items.append(item)
            if len(items) > MOST_ITEMS:
                raise OverflowError("an endless result")
        return items
    arguments = [decode(argument, kept.__getitem__) for argument in request["arguments"]]
    keywords = {name: decode(value, kept.__getitem__) for name, value in request["keywords"].items()}
    return target(*arguments, **keywords)


def main():
    requests = open(int(sys.argv[1]), encoding="utf-8", newline="\n")
    replies = os.fdopen(int(sys.argv[2]), "w", encoding="utf-8", newline="\n")
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    # A module of that name, because dataclasses and pickle look modules up.
    module = type(sys)("program")
    sys.modules["program"] = module
    namespace = module.__dict__
    kept = []

    def reply(content):
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    def keep(value):
        kept.append(value)
        return {"object": len(kept) - 1}

    def failure(error):
        return {"error": type(error).__name__, "message": str(error)[:300]}

    try:
        here = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(here, "prelude.py"), encoding="utf-8") as file:
            for line in file:
                try:
                    exec(line, namespace)
                except ImportError:
                    # Some names are younger than some interpreters.
                    pass
        with open(os.path.join(here, "program.py"), encoding="utf-8") as file:
            exec(compile(file.read(), "program.py", "exec"), namespace)
        reply({"value": None})
    except BaseException as error:
        reply(failure(error))
        return
    for line in requests:
        try:
            reply({"value": encode(answer(json.loads(line), namespace, kept), keep)})
        except BaseException as error:
            reply(failure(error))


main()
