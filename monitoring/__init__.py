"""The drift watch: windows, signals, verdict, retrain policy, report."""
