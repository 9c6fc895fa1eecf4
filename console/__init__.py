"""The pages people look at: what serves, what waits for a decision, who decided, and why."""
