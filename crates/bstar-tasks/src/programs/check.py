"""Runs the tests of a data set against a program that lives in another process.

The tests are trusted and stay here; names that they use of the program are stand-ins whose calls go
over a pipe. Only plain data comes back, so a program cannot bring its own idea of `==`.
Arguments: the number of the descriptor for requests, that of the one with replies, and the entry point
(empty if none). The exit code is the verdict; what failed stands on standard error.
"""

import ast
import builtins
import json
import os
import sys
import types

PASSED, FAILED, RAISED, ENDED, BROKEN = 40, 41, 42, 43, 44
LONGEST_REPLY = 16 << 20


class Ended(BaseException):
    """The program is gone, or says what no program of ours would say."""


class Unsendable(BaseException):
    """The tests do what these two processes cannot."""


class Raised(Exception):
    """The program raised an exception of a kind that is not built in."""


class Remote:
    """An object of the program that plain data cannot express."""

    def __init__(self, channel, number):
        self._channel, self._number = channel, number

    def __call__(self, *arguments, **keywords):
        return self._channel.ask(
            do="call",
            object=self._number,
            arguments=[encode(argument, other) for argument in arguments],
            keywords={name: encode(value, other) for name, value in keywords.items()},
        )

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._channel.ask(do="attribute", object=self._number, name=name)

    def __setattr__(self, name, value):
        if name in ("_channel", "_number"):
            return object.__setattr__(self, name, value)
        self._channel.ask(do="set", object=self._number, name=name, value=encode(value, other))

    def __iter__(self):
        return iter(self._channel.ask(do="items", object=self._number))

    def __len__(self):
        return len(list(iter(self)))

    def __eq__(self, other):
        # What the program would say of its own equality proves nothing.
        return isinstance(other, Remote) and self._number == other._number

    __hash__ = object.__hash__


class Name:
    """A name of the program, looked up when it is used."""

    def __init__(self, channel, name):
        self._channel, self._name = channel, name

    def _found(self):
        return self._channel.ask(do="find", name=self._name)

    def __call__(self, *arguments, **keywords):
        return self._found()(*arguments, **keywords)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._found(), name)


class Channel:
    def __init__(self, requests, replies):
        self._requests = os.fdopen(requests, "w", encoding="utf-8", newline="\n")
        self._replies = os.fdopen(replies, encoding="utf-8", newline="\n", errors="replace")

    def receive(self):
        line = self._replies.readline(LONGEST_REPLY)
        if not line.endswith("\n"):
            raise Ended("the program ended, or answered without end")
        try:
            reply = json.loads(line)
            if "error" not in reply:
                return decode(reply["value"], lambda number: Remote(self, int(number)))
            kind, message = str(reply["error"]), str(reply["message"])
        except Exception as error:
            raise Ended(f"an answer that is no data: {error}") from None
        known = getattr(builtins, kind, None)
        # What ends a loop or an assertion of the tests must not come from the program.
        special = (AssertionError, StopIteration, StopAsyncIteration)
        if isinstance(known, type) and issubclass(known, Exception) and known not in special:
            try:
                raised = known(message)
            except TypeError:
                raised = Raised(f"{kind}: {message}")
        else:
            raised = Raised(f"{kind}: {message}")
        raised.of_program = True
        raise raised

    def ask(self, **request):
        text = json.dumps(request)
        try:
            self._requests.write(text + "\n")
            self._requests.flush()
        except OSError:
            raise Ended("the program ended") from None
        return self.receive()


def other(value):
    """What is no plain data, but is known to the program."""
    if type(value) is Remote:
        return {"object": value._number}
    if type(value) is Name:
        return encode(value._found(), other)
    kind = type(value).__name__
    of_tests = type(value).__module__ == "tests" or isinstance(value, (type, types.FunctionType))
    if not of_tests:
        raise TypeError(f"the program gave a {kind} where the tests pass data on")
    raise Unsendable(f"a test passes a {kind}, which cannot be sent to the program")


def free_names(tree, namespace):
    """Names that the tests use, and neither they nor Python define."""
    used, made = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
    free = used - made - set(namespace)
    named = free - set(dir(builtins))
    return named | (free & tested_names(tree, named))


def tested_names(tree, named):
    """Names that every assertion calls, where none of them is the program's by any other sign: a
    program under test may be called `sum`."""
    called = [
        {
            node.func.id
            for node in ast.walk(statement)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for statement in tree.body
        if isinstance(statement, ast.Assert)
    ]
    common = set.intersection(*called) if called else set()
    if named or len(common) < 2:
        return set() if named else common
    # `abs(sum(x) - 3)`: the call that nothing else is called in.
    return {name for name in common if is_innermost(tree, name, common)}


def is_innermost(tree, name, names):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            inside = [part for argument in node.args for part in ast.walk(argument)]
            if any(isinstance(part, ast.Name) and part.id in names for part in inside):
                return False
    return True


def read(name):
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, name), encoding="utf-8") as file:
        return file.read()


def tell(error):
    try:
        text = f"{type(error).__name__}: {error}"
        sys.stderr.write(text[:500] + "\n")
    except BaseException:
        # The exit code says what matters.
        pass


def main():
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    channel = Channel(int(sys.argv[1]), int(sys.argv[2]))
    namespace = {"__name__": "tests"}
    try:
        exec(compile(read("setup.py"), "setup.py", "exec"), namespace)
        tests = read("tests.py")
        tree = ast.parse(tests, "tests.py")
        # The entry point is defined by the setup too, without a body: the program's counts.
        entry_point = sys.argv[3]
        for name in free_names(tree, namespace) | ({entry_point} if entry_point else set()):
            namespace[name] = Name(channel, name)
        code = compile(tree, "tests.py", "exec")
    except BaseException as error:
        tell(error)
        return BROKEN
    try:
        channel.receive()
        exec(code, namespace)
        return PASSED
    except Ended as error:
        tell(error)
        return ENDED
    except Unsendable as error:
        tell(error)
        return BROKEN
    except BaseException as error:
        tell(error)
        if hasattr(error, "of_program"):
            return RAISED
        return BROKEN if isinstance(error, ImportError) else FAILED


sys.exit(main())
