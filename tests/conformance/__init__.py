"""Kits: tests over a port, for every driver of it. pytest explains their assertions like those of test modules."""

import pytest

pytest.register_assert_rewrite("tests.conformance.hypervisor", "tests.conformance.storage")
