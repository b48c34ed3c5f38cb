"""What each number says that PPO logs."""

MEANINGS = (
    ("reward", "mean score of the answers, which PPO climbs; one that does not end gets the penalty instead"),
    ("true_reward", "what the simulated person really thinks of them, which nothing learns from"),
    ("kl", "log π − log π_ref summed over an answer, in nats: how far the policy has gone from the reference"),
    ("beta", "price of a nat of it"),
    ("entropy", "mean −log π of its own tokens: near 0 the policy writes always the same"),
    ("ended", "share of answers with an end token"),
    ("length", "tokens an answer"),
    ("approx_kl", "½ mean (log π − log π_old)² over an iteration's updates: some hundredths are usual"),
    ("clip_fraction", "share of ratios outside 1 ± ε: 0 learns slowly, above 0.3 the batch is overused"),
    ("ratio_min", "smallest π / π_old of any token in the iteration"),
    ("ratio_max", "largest one: 1000 is a bug or a learning rate too high"),
    ("explained_variance", "1 is a value model that foresees returns, 0 one that knows their mean, below 0 a harmful one"),
    ("lr", "learning rate"),
    ("grad_norm", "length of the policy's gradient before it is clipped, the mean over an iteration's updates"),
)
