-- run once by the PostgreSQL image, on a new volume; the database `undertone` is made by POSTGRES_DB
create database mlflow;
