"""Every exception and warning that datastill raises on purpose.

DatastillError            the command line prints its message and exits with code 2
├── ArtefactError         a distilled set, target model or checkpoint file cannot be used
├── DataError             images or labels are not what was asked for
│   └── ChecksumError     a file's bytes are not the expected ones
├── ConfigError           names, values or combinations of options that make no sense
│   └── ResumeError       a checkpoint does not belong to the run that wants to continue from it
├── NumericalError        the numbers broke down
│   ├── NotFiniteError    a NaN or an infinity appeared
│   └── SingularKernelError  a kernel matrix could not be factorised, even with jitter
├── RankLostError         another rank died or does not answer; exit code 1
├── MemoryShortError      there is less memory than the work needs
└── GridError             parts of a grid of runs failed; exit code 1, for they may be no bad input

NumericalWarning          the numbers needed help; the message says how much
DataWarning               images were skipped or converted, or all look alike to a target model
└── SubsetWarning         a split has another number of images than the official one
"""

from typing import ClassVar

OF_MEMORY = (  # words of errors that say that it ran out
    "out of memory",  # torch.OutOfMemoryError and others of CUDA
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "can't allocate memory",  # PyTorch on the host
    "bad_alloc",  # C++
    "could not create a memory object",  # oneDNN; the others are all that it says of its own code
    "could not create a primitive",
    "could not execute a primitive",
)


class DatastillError(Exception):
    """Base of all errors that tell the user what came, what was expected and what to do."""

    exit_code: ClassVar[int] = 2  # of the command line


class ArtefactError(DatastillError):
    """A file made by datastill is damaged, foreign or from a newer format version."""


class DataError(DatastillError):
    """Images or labels are missing, unreadable or not as many as were asked for."""


class ChecksumError(DataError):
    """A downloaded or stored file does not have the expected bytes."""


class ConfigError(DatastillError):
    """An option, a name or a combination of them cannot be used."""


class ResumeError(ConfigError):
    """A checkpoint and the run that wants to continue from it do not fit."""


class NumericalError(DatastillError):
    """A computation cannot go on."""


class NotFiniteError(NumericalError):
    """A NaN or an infinity appeared; the message names step and tensor."""


class SingularKernelError(NumericalError):
    """A kernel matrix is not positive definite, even with jitter."""


class RankLostError(DatastillError):
    """Another rank has died, or does not answer: what all compute together cannot go on."""

    exit_code: ClassVar[int] = 1


class MemoryShortError(DatastillError):
    """Work needs more memory than there is; the message names what to lower."""


class GridError(DatastillError):
    """Parts of a grid of runs failed; the message names the first."""

    exit_code: ClassVar[int] = 1


class NumericalWarning(UserWarning):
    """Jitter was added to a kernel matrix; the message says how much."""


class DataWarning(UserWarning):
    """Images were skipped or converted, or a target model tells them no longer apart."""


class SubsetWarning(DataWarning):
    """A split has more or fewer images than the official one; the message has both numbers."""


def exhausted(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OF_MEMORY)
