"""Has mypyc and the C compiler make the extensions."""

import os
from pathlib import Path

from compiling.modules import FOLDERS, GROUP, built, sources
from mypyc.build import mypycify
from setuptools import Distribution


def build(root: Path) -> None:
    """Compile all modules, beside their sources.

    Raises:
        SystemExit: mypy refuses a module.
        setuptools.errors.BaseError: there is no C compiler, or it failed.
    """
    os.chdir(root)  # that is where mypy looks for its configuration
    workplace = root / ".hfx" / "compile"
    names = [str(source.relative_to(root)) for source in sources(root)]
    extensions = mypycify(names, opt_level="2", target_dir=str(workplace), group_name=GROUP)
    for extension in extensions:
        extension.extra_compile_args += ["-Wno-error"]
    # Not `setup()`: that would read pyproject.toml, which is for another build system.
    distribution = Distribution(
        {
            "name": GROUP,
            "packages": [],
            "py_modules": [],
            "package_dir": {name: str(Path(folder, name)) for name, folder in FOLDERS.items()},
            "ext_modules": extensions,
        }
    )
    command = distribution.get_command_obj("build_ext")
    command.inplace = True
    command.build_temp = command.build_lib = str(workplace)
    distribution.run_command("build_ext")
    for path in built(root):
        path.touch()  # those that did not have to be made anew are up to date as well
