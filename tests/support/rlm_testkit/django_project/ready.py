"""Sets Django up when it is imported, for tests that import what needs its apps."""

from rlm_testkit.django_project import configure

configure()
