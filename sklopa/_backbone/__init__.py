"""The frozen model: prompt and tokens -> states (B, P + T, D).

It stands before the instance embedding, though a text meets it later: the same frozen model is read
twice, once without a prompt, which gives the instance embedding, and once behind the prompt.
"""
