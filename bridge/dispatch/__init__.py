"""Which room? Pure functions from the operator's trunks, rules and numbers to a verdict, a decision and the reasons why."""
