"""Jobs on a cluster that runs elsewhere: what is sent there, how it is watched to its end, and how it is stopped."""
