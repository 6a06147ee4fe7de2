"""What each test of a fault writes down, for the table at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.harness import Ledger


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Callable[[str], Ledger]:
    return lambda name: Ledger(request.node.user_properties, name)
