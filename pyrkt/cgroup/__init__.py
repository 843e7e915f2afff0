"""Control groups: limits as (file, value) pairs, planned purely; freezing, killing, counting and removing."""
