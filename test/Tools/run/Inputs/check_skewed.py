"""Check the work that moe-run counts for skewed.mlir: check_skewed.py REPORT."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    work = json.load(file)["benchmark"]["work"]
by_type = work["contraction_flops_by_type"]
assert by_type["bf16"] == 6 * 2 * (2 * 4), work  # 6 rows on expert 0, widened from bf16
assert by_type["f64"] == 6 * 2 * (5 * 4), work  # in a function that is called
assert by_type["f32"] == 0 and work["uncounted_contractions"] == 1, work  # in a loop
assert work["expert_ops"] == [{"experts": 3, "experts_with_rows": 1, "rows": 6}], work
assert work["weight_bytes"] == 3 * 2 * 4 * 2 + 5 * 4 * 8, work
assert work["touched_weight_bytes"] == 2 * 4 * 2 + 5 * 4 * 8, work
assert work["activation_bytes"] == 6 * 4 * 2 + 6 * 4 + 2 * (6 * 2 * 4) + 6 * 5 * 8, work
