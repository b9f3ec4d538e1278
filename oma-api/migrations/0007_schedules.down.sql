DROP TABLE system_pauses;
DROP TABLE schedules;
