"""What every other package stands on: errors, records, readers of JSON, atomic files. No policy, no domain."""
