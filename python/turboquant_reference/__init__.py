"""TurboQuant's format and mathematics, written a second time: from the specification, in NumPy.

It shares no code with the C++ library. python/make_golden.py writes the golden files with it, and
tests/golden holds the library to them. float64 unless the format says float32: the rotation's
butterflies, the gain and the stored numbers are float32 by definition.
"""
