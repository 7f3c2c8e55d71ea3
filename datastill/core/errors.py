"""All exceptions and warnings of datastill.

DatastillError            the command line prints its message and exits with code 2
├── ArtefactError         a distilled set, target model or checkpoint file cannot be used
├── DataError             images or labels are missing or unreadable
│   └── ChecksumError     a file's bytes are not the expected ones
├── ConfigError           a name, a value or a combination of options is wrong
│   └── ResumeError       a checkpoint does not belong to the run that is to continue from it
├── NumericalError        a computation cannot continue
│   ├── NotFiniteError    a NaN or an infinity appeared
│   └── SingularKernelError  a kernel matrix could not be factorised, even with jitter
├── RankFailureError      another rank died or does not answer; exit code 1
├── InsufficientMemoryError  memory ran out
└── GridError             stages of a recipe failed; exit code 1

NumericalWarning          jitter was added to a kernel matrix; the message has the amount
DataWarning               images were skipped or converted, or their representations collapsed
└── SubsetWarning         a split has another number of images than the official one
"""

from typing import ClassVar

OOM_MESSAGES = (
    "out of memory",  # torch.OutOfMemoryError and others of CUDA
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "can't allocate memory",  # PyTorch on the host
    "bad_alloc",  # C++
    "could not create a memory object",  # oneDNN, which has no clearer message
    "could not create a primitive",
    "could not execute a primitive",
)


class DatastillError(Exception):
    """Base of all errors of datastill; its message says what came, what was expected, what to do.

    The command line prints the message without a traceback and exits with `exit_code`.

    Args:
        message: One or two sentences.

    Example:
        >>> import datastill as ds
        >>> try:
        ...     ds.KRRST(outer_steps=0)
        ... except ds.DatastillError as error:
        ...     print(error)
        KRRST: outer_steps=0: expected at least 1
    """

    exit_code: ClassVar[int] = 2


class ArtefactError(DatastillError):
    """A file made by datastill is damaged, foreign or from a newer format version."""


class DataError(DatastillError):
    """Images or labels are missing, unreadable or too few."""


class ChecksumError(DataError):
    """A downloaded or stored file does not have the expected bytes."""


class ConfigError(DatastillError):
    """An option, a name or a combination of them cannot be used."""


class ResumeError(ConfigError):
    """A checkpoint does not belong to the run that is to continue from it."""


class NumericalError(DatastillError):
    """A computation cannot continue."""


class NotFiniteError(NumericalError):
    """A NaN or an infinity appeared; the message names step and tensor."""


class SingularKernelError(NumericalError):
    """A kernel matrix is not positive definite, even with jitter."""


class RankFailureError(DatastillError):
    """Another rank has died or does not answer."""

    exit_code: ClassVar[int] = 1


class InsufficientMemoryError(DatastillError):
    """Memory ran out; the message says which option to lower."""


class GridError(DatastillError):
    """Stages of a recipe failed; the message names the first."""

    exit_code: ClassVar[int] = 1


class NumericalWarning(UserWarning):
    """Jitter was added to a kernel matrix; the message says how much."""


class DataWarning(UserWarning):
    """Images were skipped or converted, or the representations of a target model collapsed."""


class SubsetWarning(DataWarning):
    """A split has more or fewer images than the official one; the message has both numbers."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OOM_MESSAGES)
