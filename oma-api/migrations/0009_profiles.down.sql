ALTER TABLE migrations DROP COLUMN target_profile;
DROP TABLE target_profiles;
