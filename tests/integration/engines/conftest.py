"""What a failed comparison shows."""

import pytest

pytest.register_assert_rewrite("tests.integration.engines.compare", "tests.integration.engines.place")
