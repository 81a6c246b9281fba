-- The quickstart's source, in the order in which the foreign keys allow loading.
-- Instants are UTC text, 'YYYY-MM-DD HH:MM:SS'. What each column comes from is in SOURCE.md.

CREATE TABLE airlines (
    code        TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    updated_at  TIMESTAMP NOT NULL
);

CREATE TABLE cities (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    name_ja       TEXT,
    name_ko       TEXT,
    name_el       TEXT,
    country_code  TEXT NOT NULL,
    population    INTEGER NOT NULL,
    latitude      DECIMAL(9,6) NOT NULL,
    longitude     DECIMAL(9,6) NOT NULL,
    updated_at    TIMESTAMP NOT NULL
);

CREATE TABLE airports (
    code        TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    city_id     INTEGER NOT NULL,
    state       TEXT NOT NULL,
    latitude    DECIMAL(9,6) NOT NULL,
    longitude   DECIMAL(9,6) NOT NULL,
    time_zone   TEXT NOT NULL,
    updated_at  TIMESTAMP NOT NULL,
    FOREIGN KEY (city_id) REFERENCES cities (id)
);

CREATE TABLE weather (
    airport_code          TEXT NOT NULL,
    observed_at           TIMESTAMP NOT NULL,
    temperature_f         DECIMAL(5,2),
    dew_point_f           DECIMAL(5,2),
    humidity_percent      DECIMAL(5,2),
    wind_direction        INTEGER,
    wind_speed_mph        DECIMAL(8,5),
    wind_gust_mph         DECIMAL(8,5),
    precipitation_inches  DECIMAL(4,2),
    pressure_hpa          DECIMAL(5,1),
    visibility_miles      DECIMAL(4,2),
    updated_at            TIMESTAMP NOT NULL,
    PRIMARY KEY (airport_code, observed_at),
    FOREIGN KEY (airport_code) REFERENCES airports (code)
);

CREATE TABLE flights (
    id                   INTEGER PRIMARY KEY,
    airline_code         TEXT NOT NULL,
    flight_number        INTEGER NOT NULL,
    tail_number          TEXT,
    origin_code          TEXT NOT NULL,
    destination_code     TEXT NOT NULL,
    scheduled_departure  TIMESTAMP NOT NULL,
    departed_at          TIMESTAMP,
    scheduled_arrival    TIMESTAMP NOT NULL,
    arrived_at           TIMESTAMP,
    air_time_minutes     INTEGER,
    distance_miles       INTEGER NOT NULL,
    distance_km          DECIMAL(10,6) NOT NULL,
    updated_at           TIMESTAMP NOT NULL,
    FOREIGN KEY (airline_code) REFERENCES airlines (code),
    FOREIGN KEY (origin_code) REFERENCES airports (code),
    FOREIGN KEY (destination_code) REFERENCES airports (code)
);

CREATE INDEX airlines_updated_at ON airlines (updated_at);
CREATE INDEX cities_updated_at ON cities (updated_at);
CREATE INDEX airports_updated_at ON airports (updated_at);
CREATE INDEX weather_updated_at ON weather (updated_at);
CREATE INDEX flights_updated_at ON flights (updated_at);
