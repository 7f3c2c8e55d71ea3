"""Self-supervised dataset distillation: KRR-ST, the compared methods and their evaluation.

The public names are listed in `__init__.pyi`. They are imported when they are first used (SPEC 1
of Scientific Python), so that `import datastill` and the command line's help do not wait for torch.
"""

import lazy_loader

from datastill.core.version import package_version

__version__ = package_version("datastill")
__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*_names, "__version__"])


def __dir__() -> list[str]:
    return __all__
