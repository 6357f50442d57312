"""The parts that a GRPO loss is put together from, one choice a file; `loss` reads them in order.

    ratio          new / old: of every token (PPO, GRPO) or of the whole sequence (GSPO)
    surrogate      clipped below, above (DAPO), and from beyond for bad tokens (dual clip)
    engine_ratio   old / rollout: what two engines think differently of the same tokens
    kl             k1, k2 or k3 to the policy at the start of the round
    mean           per sequence (GRPO), per token (DAPO) or by a constant length (Dr. GRPO)

Advantages are those of `train.advantage`. What all of them are told stands in `train.settings.GrpoSettings`.
"""
