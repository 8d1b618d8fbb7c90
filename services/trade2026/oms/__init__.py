"""Order management: the life of every order of an account shard, and the exposure that it reserves."""
