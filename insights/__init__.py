"""What analysts ask: trends with their uncertainty, real changes, channels, upsell, time to insight, cadence, revenue.

Reads the views of `undertone.views` and nothing else of the store. Every result is a frozen record that the console,
the command line and files show alike.
"""
