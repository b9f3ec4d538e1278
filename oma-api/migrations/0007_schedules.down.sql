DROP TABLE system_pauses;
DROP TABLE guards;
DROP TABLE schedules;
