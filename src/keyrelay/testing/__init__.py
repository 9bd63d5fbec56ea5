"""What others test their own parts of keyrelay with."""

import pytest

# Then a failed test says which values it compared, as it does in a test of one's own.
pytest.register_assert_rewrite(__name__ + ".pam")
