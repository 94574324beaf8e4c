"""The Python side of the MoE compiler: readers, a float64 reference, the bridge to transformers.

Only `moe.hf` needs torch; everything else needs numpy alone. Import the modules by name
(`from moe import tensors`): nothing is loaded that isn't asked for.
"""
