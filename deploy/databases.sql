-- run once by the PostgreSQL image, on a new volume; the database `undertone` is made by POSTGRES_DB
create database mlflow;
-- the read-only role for BI tools comes later, once there are views: bi_reader.sql
