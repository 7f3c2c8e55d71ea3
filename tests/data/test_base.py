import pytest

from datastill.core.errors import ConfigError
from datastill.data.source import source


def test_source__unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cifar100'"):
        source("cifar-100")


def test_source__value_for_a_source_without_options_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes nothing after a colon"):
        source("cifar10:here")
