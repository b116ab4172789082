"""Tests of scripts/check_real_model.py on rows as the program writes them."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_real_model  # noqa: E402


def exact(**changes):
    return {"method": "exact", "context": 512, "perplexity": 29.762} | changes


def cache(**changes):
    return {
        "method": "cache", "policy": "small", "key_bits": 3.0, "value_bits": 3.0, "window": 0,
        "context": 512, "first_position": 0, "kl_mean": 0.05, "kl_p99": 0.5, "top1_agreement": 0.9,
        "perplexity": 30.0, "perplexity_exact": 29.762, "kv_bytes": 5000.0, "packed_tokens": 6,
        "exact_tokens": 4
    } | changes


def keys_alone(first_position, kl):
    return cache(value_bits=32.0, context=2048, first_position=first_position, kl_mean=kl)


class RealModelTest(unittest.TestCase):
    def test_what_is_kept_is_not_refused(self):
        self.assertEqual([], check_real_model.refusals([exact(), cache()]))

    def test_too_much_divergence_or_perplexity(self):
        for change in ({"kl_mean": 0.0571}, {"perplexity": 31.0}, {"perplexity": 28.2}):
            found = check_real_model.refusals([cache(**change)])
            self.assertEqual(1, len(found), change)
            self.assertIn("not kept: | small K3V3 window 0 | 500 |", found[0])

    def test_divergence_alone_bounds_keys_alone(self):
        keys = keys_alone(0, 0.02) | {"perplexity": 33.0}
        self.assertEqual([], check_real_model.refusals([keys]))

    def test_the_exact_run_is_pythons(self):
        self.assertEqual(["exact perplexity is 29.77, not 29.762"],
                         check_real_model.refusals([exact(perplexity=29.77)]))
        self.assertEqual(1, len(check_real_model.refusals([exact(context=2048)])))

    def test_a_cache_that_no_bound_names(self):
        self.assertEqual(["no bound for small K3V3 window 32"],
                         check_real_model.refusals([cache(window=32)]))

    def test_nothing_measured(self):
        self.assertEqual(["no teacher-forced row"], check_real_model.refusals([]))

    def test_positions_cost_a_tenth_at_most(self):
        rows = [keys_alone(0, 0.02), keys_alone(6144, 0.0219)]
        self.assertEqual([], check_real_model.refusals(rows))
        rows[1] = keys_alone(6144, 0.0221)
        self.assertEqual(["positions cost 1.105 times the KL, 1.1 are allowed"],
                         check_real_model.refusals(rows))

    def test_all_bounds_want_their_cache(self):
        found = check_real_model.refusals([cache()], wants_all=True)
        self.assertEqual(len(check_real_model.BOUNDS) - 1, len(found))
        self.assertTrue(all(line.startswith("missing: Cache(") for line in found))

    def test_a_plain_format_that_is_better_for_no_more_bytes(self):
        plain = cache(method="q4_0", policy="", key_bits=4.0, value_bits=4.0, kl_mean=0.04)
        worse = plain | {"method": "fp8", "kl_mean": 0.045}
        self.assertEqual(["small K3V3 window 0 is beaten by q4_0 K4V4 window 0"],
                         check_real_model.beaten([cache(), worse, plain]))
        self.assertEqual([], check_real_model.beaten([cache(), plain | {"kv_bytes": 5001.0}]))
        self.assertEqual([], check_real_model.beaten([cache(), plain | {"kl_mean": 0.06}]))
        self.assertEqual([], check_real_model.beaten([cache(), plain | {"context": 2048}]))
        self.assertEqual([], check_real_model.refusals([plain]))  # it has no bound


if __name__ == "__main__":
    unittest.main()
