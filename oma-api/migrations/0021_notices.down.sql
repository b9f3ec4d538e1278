DROP TABLE failover_notices;
